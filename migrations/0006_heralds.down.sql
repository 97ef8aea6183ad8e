alter table pgtasks.jobs drop column heralds;
