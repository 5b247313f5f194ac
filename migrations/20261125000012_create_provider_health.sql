-- Whether what a tenant has configured works: what the job `provider-health` found last.
create table provider_health (
    config_id   uuid primary key references provider_configs (id) on delete cascade,
    tenant_id   uuid not null references tenants (id),
    state       text not null check (state in ('up', 'down')),
    -- Since when it is so.
    since       timestamptz not null default now(),
    checked_at  timestamptz not null default now(),
    -- [{"name", "ok", "detail"}], as the configuration's test tells them.
    checks      jsonb not null
);
alter table provider_health enable row level security;
create policy every_tenant on provider_health to live_sessions_service using (true) with check (true);
create policy own_tenant on provider_health to live_sessions_tenant using (tenant_id = (select current_tenant()));
grant select on provider_health to live_sessions_tenant;
