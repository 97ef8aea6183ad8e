create schema if not exists bookshop;

create table bookshop.customers (
    id bigint generated always as identity primary key,
    name text not null,
    address text not null unique
);
create table bookshop.books (
    isbn text primary key,
    title text not null,
    price numeric(8, 2) not null,
    stock integer not null check (stock >= 0),
    synced_at timestamptz
);
create table bookshop.orders (
    id bigint generated always as identity primary key,
    customer_id bigint not null references bookshop.customers,
    placed_at timestamptz not null default now(),
    invoice_file text,
    invoiced_at timestamptz
);
create table bookshop.order_lines (
    order_id bigint not null references bookshop.orders,
    isbn text not null references bookshop.books,
    count integer not null check (count > 0)
);
create table bookshop.reports (
    id bigint generated always as identity primary key,
    day date not null unique,
    orders integer not null,
    turnover numeric(12, 2) not null
);
