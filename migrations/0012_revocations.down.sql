drop table pgtasks.revoked_tasks, pgtasks.revoked_stamps;
