"""The ``doctor`` command."""

from __future__ import annotations

from typing import Any

import click

from pgtasks.cli.examination import Finding, examine
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import Output, clean

__all__ = ["doctor"]


@click.command(cls=Command)
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation: connection, tables, notifications, workers, queues.

    Each line is ok, warn or fail, and says what to do. The exit status is 1 if one failed.
    """
    invocation = ctx.ensure_object(Invocation)
    out = invocation.out
    findings = []
    for finding in examine(invocation.application, invocation):
        findings.append(finding)
        if not as_json:
            _show(out, finding)
    if as_json:
        out.json([_record(finding) for finding in findings])
    ctx.exit(1 if any(finding.verdict == "fail" for finding in findings) else 0)


def _show(out: Output, finding: Finding) -> None:
    color = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.verdict]
    verdict = out.style(f"{finding.verdict:<4}", fg=color, bold=True)
    out.say(f"{verdict}  {finding.about:<13} {clean(finding.message)}")
    if finding.remedy:
        out.say(f"{'':<20}{out.style('→', fg=color)} {clean(finding.remedy)}")


def _record(finding: Finding) -> dict[str, Any]:
    record = {**finding._asdict(), "data": finding.data or {}}
    return {"check": record.pop("about"), **record}
