drop function pgtasks.enqueue;
