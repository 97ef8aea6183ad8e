"""A Sphinx extension that documents tasks, which autodoc takes for objects of no interest.

    # conf.py
    extensions = ["sphinx.ext.autodoc", "pgtasks.contrib.sphinx"]

``automodule`` then shows tasks as functions with a prefix, ``(task)`` unless the option
``celery_task_prefix`` says otherwise; ``autotask`` shows one, and ``:task:`` links to it.
"""

from __future__ import annotations

import inspect
from typing import Any

import sphinx
from docutils import nodes
from sphinx.domains.python import PyFunction, PyXRefRole
from sphinx.ext.autodoc import FunctionDocumenter

from pgtasks.app.task import Task

__all__ = ["TaskDirective", "TaskDocumenter", "setup"]

PREFIX = "(task)"


def is_task(obj: Any) -> bool:
    """Whether an object is a task that was made of a function."""
    return isinstance(obj, Task) and getattr(obj, "__wrapped__", None) is not None


class TaskDocumenter(FunctionDocumenter):  # type: ignore[misc, unused-ignore]
    """Writes the directive of a task."""

    objtype = "task"
    member_order = 11

    @classmethod
    def can_document_member(
        cls, member: Any, membername: str, isattr: bool, parent: Any
    ) -> bool:
        """Whether a member of a module is a task."""
        return is_task(member)

    def format_args(self, **kwargs: Any) -> str:
        """The arguments to call it with; ``self`` is none of them."""
        function = getattr(self.object, "__wrapped__", None)
        if function is None:
            return ""
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if parameters and parameters[0].name in ("self", "cls"):
            signature = signature.replace(parameters=parameters[1:])
        return str(signature)

    def document_members(self, all_members: bool = False) -> None:
        """Leave out its attributes."""

    def check_module(self) -> bool:
        """Whether it is defined in the module, and not imported there."""
        # Asked of the function: the task itself is a proxy, made somewhere else.
        function = getattr(self.object, "__wrapped__", None)
        if function is not None and function.__module__ == self.modname:
            return True
        return bool(super().check_module())


class TaskDirective(PyFunction):  # type: ignore[misc, unused-ignore]
    """Shows a task as a function with a prefix."""

    def get_signature_prefix(self, sig: str) -> list[Any]:
        """The prefix."""
        return [nodes.Text(self.env.config.celery_task_prefix)]


def keep_tasks(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Have autodoc not skip tasks: their docstring looks like one that is inherited."""
    return False if skip and is_task(obj) else None


def setup(app: Any) -> dict[str, Any]:
    """Register the extension; called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    if sphinx.version_info >= (9,):
        # Its new autodoc knows no documenters.
        app.config.autodoc_use_legacy_class_based = True
    app.add_autodocumenter(TaskDocumenter)
    app.add_directive_to_domain("py", "task", TaskDirective)
    app.add_role_to_domain("py", "task", PyXRefRole(fix_parens=True))
    app.add_config_value("celery_task_prefix", PREFIX, True)
    app.connect("autodoc-skip-member", keep_tasks)
    return {"parallel_read_safe": True}
