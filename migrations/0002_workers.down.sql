drop table pgtasks.workers;
