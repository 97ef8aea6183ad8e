drop table pgtasks.replies;
drop table pgtasks.commands;
