drop table pgtasks.event_receivers;
drop table pgtasks.events;
