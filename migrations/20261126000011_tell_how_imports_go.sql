-- When the present attempt of an import began, and what was there already: how fast it is, and when it may end.
alter table recordings add column import_started_at timestamptz;
alter table recordings add column import_started_bytes bigint not null default 0;
