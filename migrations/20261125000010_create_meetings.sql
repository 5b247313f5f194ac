-- Meetings that were made at a provider for a session: where one is, what it is called there, and what ways into it are made
-- from. A session has one at a time; what is over stays, because webhooks and recordings of it still come.
create table meetings (
    id                 uuid primary key,
    tenant_id          uuid not null references tenants (id),
    session_id         uuid not null references sessions (id) on delete cascade,
    provider           text not null check (provider in ('jitsi', 'jaas', 'bbb', 'zoom')),
    -- Null: the environment's.
    provider_config_id uuid references provider_configs (id) on delete cascade,
    -- Which of the configuration's servers has it, where there are several.
    server             text,
    -- What the provider calls it; null until it is made.
    external_id        text,
    -- See shared::providers::Meeting.
    details            jsonb,
    -- While it is being made: whoever makes it has this long. Then somebody else may try.
    claimed_until      timestamptz not null,
    made_at            timestamptz,
    ended_at           timestamptz,
    created_at         timestamptz not null default now(),
    check ((made_at is null) = (external_id is null) and (made_at is null) = (details is null))
);
create unique index meetings_open_key on meetings (session_id) where ended_at is null;
create index meetings_session_idx on meetings (session_id);
create index meetings_external_idx on meetings (provider, external_id);
create index meetings_config_idx on meetings (provider_config_id) where provider_config_id is not null;

alter table meetings enable row level security;
create policy every_tenant on meetings to live_sessions_service using (true) with check (true);
create policy own_tenant on meetings to live_sessions_tenant using (tenant_id = (select current_tenant()));
grant select, insert, update, delete on meetings to live_sessions_tenant;
