-- What hosts and administrators say against the computed attendance. Rows are only added: the newest of a person counts, one
-- that says nothing takes the earlier ones back.
create table attendance_corrections (
    id              uuid primary key,
    tenant_id       uuid not null references tenants (id),
    session_id      uuid not null references sessions (id) on delete cascade,
    person_id       text not null,
    -- Null: as computed.
    status          text check (status in ('present', 'late', 'left_early', 'partial', 'absent', 'excused')),
    present_seconds bigint check (present_seconds >= 0),
    reason          text not null check (reason <> ''),
    made_by         text not null,
    made_at         timestamptz not null default now()
);
create index attendance_corrections_idx on attendance_corrections (session_id, person_id, id desc);
alter table attendance_corrections enable row level security;
create policy every_tenant on attendance_corrections to live_sessions_service using (true) with check (true);
create policy own_tenant on attendance_corrections to live_sessions_tenant using (tenant_id = (select current_tenant()));
grant select, insert on attendance_corrections to live_sessions_tenant;
create trigger audit after insert on attendance_corrections
    for each row execute function audit_row('attendance-correction', 'session_id', 'tenant_id', '', 'id,made_at,made_by', '');

-- Who corrected the row, why, and what had been computed (shared::domain::attendance::Corrected).
alter table attendance add column corrected jsonb;
