-- Who was registered for a meeting, where the provider makes a link for each person (Zoom): told again, the same address is
-- counted, and refused from the fourth time of a day on. The link is sealed (shared::secrets): it lets in whoever has it.
create table meeting_registrants (
    meeting_id     uuid not null references meetings (id) on delete cascade,
    tenant_id      uuid not null references tenants (id),
    person_id      text not null,
    -- What the provider calls the person; comes back in events and reports.
    registrant_id  text not null,
    key_id         text not null,
    ciphertext     bytea not null,
    created_at     timestamptz not null default now(),
    primary key (meeting_id, person_id)
);
create index meeting_registrants_registrant_idx on meeting_registrants (meeting_id, registrant_id);

alter table meeting_registrants enable row level security;
create policy every_tenant on meeting_registrants to live_sessions_service using (true) with check (true);
create policy own_tenant on meeting_registrants to live_sessions_tenant using (tenant_id = (select current_tenant()));
grant select, insert, update, delete on meeting_registrants to live_sessions_tenant;

-- When the provider's report of who was there had been read.
alter table meetings add column reported_at timestamptz;

-- Calls of a provider's API that are left alone until then, by all processes, because it said that there were too many.
create table api_pauses (
    -- Whose limit it is; see shared::providers::zoom::Zoom::fingerprint.
    app    text not null,
    call   text not null,
    until  timestamptz not null,
    primary key (app, call)
);
