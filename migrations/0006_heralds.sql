--! needs 14
-- Results that are waited for before their jobs exist: the last link of a chain.
--
-- Whoever waits leaves the id with a job that comes before it. What follows from a job takes
-- over its heralds, and a job that finds its own id among them is awaited from its insert on.

-- Ids of later jobs of its work-flow that somebody waits for.
alter table pgtasks.jobs add column heralds text[];
