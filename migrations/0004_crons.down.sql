drop table pgtasks.cron_ticks;
