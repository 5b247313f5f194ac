-- What people say against their own row of the attendance report. One is open per person and session at a time; a correction
-- upholds it, otherwise it is refused with a reason.
create table attendance_objections (
    id           uuid primary key,
    tenant_id    uuid not null references tenants (id),
    session_id   uuid not null references sessions (id) on delete cascade,
    person_id    text not null,
    reason       text not null check (reason <> ''),
    state        text not null default 'open' check (state in ('open', 'upheld', 'refused')),
    made_at      timestamptz not null default now(),
    -- The correction's reason, or why it was refused.
    answer       text check (answer <> ''),
    answered_by  text,
    answered_at  timestamptz,
    check ((state = 'open') = (answer is null) and (answer is null) = (answered_by is null)
        and (answer is null) = (answered_at is null))
);
create unique index attendance_objections_open_key on attendance_objections (session_id, person_id) where state = 'open';
create index attendance_objections_idx on attendance_objections (session_id, id);

alter table attendance_objections enable row level security;
create policy every_tenant on attendance_objections to live_sessions_service using (true) with check (true);
create policy own_tenant on attendance_objections to live_sessions_tenant using (tenant_id = (select current_tenant()));
grant select, insert, update on attendance_objections to live_sessions_tenant;
create trigger audit after insert or update on attendance_objections
    for each row execute function audit_row('attendance-objection', 'session_id', 'tenant_id', '', 'id,made_at,answered_at,answered_by', 'person_id');
