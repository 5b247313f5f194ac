-- A tenant's administrators change its settings over the API; who it is (id, slug) stays the operator's.
alter table tenants add column version bigint not null default 1;
create policy own_tenant_change on tenants for update to live_sessions_tenant
    using (id = (select current_tenant())) with check (id = (select current_tenant()));
grant update (name, locale, timezone, join_opens_before_s, reminder_minutes, heartbeat_interval_s, heartbeat_timeout_s, end_grace_s,
    attendance_rules, recording_retention_days, personal_data_retention_days, version) on tenants to live_sessions_tenant;
