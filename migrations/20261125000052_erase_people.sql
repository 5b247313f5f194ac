-- Requests to erase a person. What was held under the person's id is held under a pseudonym afterwards, which leads back to
-- nobody: reports and counts of sessions stay right.
create table erasures (
    id            uuid primary key,
    tenant_id     uuid not null references tenants (id),
    -- Whom; null once it is done.
    person_id     text,
    -- `erased:` and something random.
    pseudonym     text not null unique,
    state         text not null default 'waiting' check (state in ('waiting', 'done')),
    requested_by  text not null,
    requested_at  timestamptz not null default now(),
    finished_at   timestamptz,
    -- Names and addresses of the person, as they were found before the first of them was erased; null once it is done.
    terms         text[],
    -- Rows that were erased so far, by table.
    erased        jsonb not null default '{}',
    -- What was kept, and why.
    kept          jsonb,
    check ((state = 'waiting') = (person_id is not null) and (state = 'done') = (finished_at is not null)
        and (state = 'done') = (kept is not null) and (state = 'waiting' or terms is null))
);
create unique index erasures_waiting_key on erasures (tenant_id, person_id) where state = 'waiting';
create index erasures_tenant_idx on erasures (tenant_id, id);

alter table erasures enable row level security;
create policy every_tenant on erasures to live_sessions_service using (true) with check (true);
create policy own_tenant on erasures to live_sessions_tenant using (tenant_id = (select current_tenant()));
grant select, insert, update (person_id) on erasures to live_sessions_tenant;

-- After so many days the people of a session that has ended are forgotten: its rows about them are deleted by the nightly
-- clean-up. Null keeps them.
alter table tenants add column personal_data_retention_days integer check (personal_data_retention_days > 0);
alter table sessions add column people_forgotten_at timestamptz;
create index sessions_ended_idx on sessions (tenant_id, ended_at) where ended_at is not null and people_forgotten_at is null;

-- A text without a person: the whole of it is one of `terms`, or what matches `pattern` in it.
create function erase_text(value text, terms text[], pattern text, by text) returns text language sql immutable parallel safe as
    $$ select case when value = any (terms) then by when pattern is null then value else regexp_replace(value, pattern, by, 'g') end $$;

-- All texts of a JSON value without a person; names of fields stay.
create function erase_json(value jsonb, terms text[], pattern text, by text) returns jsonb language plpgsql immutable parallel safe as $$
begin
    return case jsonb_typeof(value)
        when 'string' then to_jsonb(erase_text(value #>> '{}', terms, pattern, by))
        when 'array' then coalesce(
            (select jsonb_agg(erase_json(item, terms, pattern, by) order by at) from jsonb_array_elements(value) with ordinality as items (item, at)), '[]')
        when 'object' then coalesce(
            (select jsonb_object_agg(key, erase_json(item, terms, pattern, by)) from jsonb_each(value) as items (key, item)), '{}')
        else value
    end;
end
$$;

-- The one way in which lines of the audit log change: the person is not named in them any more, and what was said about the
-- person is taken out. That it was done is a line of its own.
create function audit_erase(tenant uuid, person text, terms text[], pattern text, by text) returns bigint
    language plpgsql security definer set search_path from current as $$
declare
    lines bigint;
begin
    update audit_log set
        actor = case when actor = 'person:' || person then 'person:' || by else actor end,
        subject_id = case when subject_id = person then by else subject_id end,
        changes = erase_json(
            case when action like 'attendance-%' and changes -> 'person_id' ? person then changes - 'reason' - 'answer' else changes end,
            terms, pattern, by)
    where tenant_id = tenant and (actor = 'person:' || person or subject_id = person
        or changes is distinct from erase_json(changes, terms, pattern, by));
    get diagnostics lines = row_count;
    return lines;
end
$$;
revoke execute on function audit_erase from public;
grant execute on function audit_erase to live_sessions_service;

-- That the people of a session were forgotten is the clean-up's own business, as its finalization is.
drop trigger audit on sessions;
create trigger audit after insert or update or delete on sessions
    for each row execute function audit_row('session', 'id', 'tenant_id', 'host_email', 'room,attendance_rules,finalized_at,sequence,people_forgotten_at', '');
