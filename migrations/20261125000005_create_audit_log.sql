-- Who changed what, when, from what to what. Written by triggers, as the owner of the tables: no path of the code can change
-- something without a trace, and the services can read the log but neither write nor change it.
create table audit_log (
    id          bigint generated always as identity primary key,
    -- Null where the change belongs to no tenant (a queue is paused).
    tenant_id   uuid,
    at          timestamptz not null default now(),
    -- `person:<sub>`, `api-key:<id>`, `job:<kind>`, `operator:<name>`; `sql:<user>` for what was done by hand.
    actor       text not null,
    -- The request's X-Request-Id, the job's id.
    request_id  text,
    -- `<what>.<became>`: session.created, session.live, recording.published, provider-config.changed …
    action      text not null,
    subject_id  text not null,
    -- {"field": [before, after]}; neither secrets nor addresses.
    changes     jsonb not null
);
create index audit_log_tenant_idx on audit_log (tenant_id, id);
create index audit_log_subject_idx on audit_log (tenant_id, subject_id, id);

alter table audit_log enable row level security;
create policy every_tenant on audit_log for select to live_sessions_service using (true);
create policy own_tenant on audit_log for select to live_sessions_tenant using (tenant_id = (select current_tenant()));
-- The default privileges gave more.
revoke insert, update, delete on audit_log from live_sessions_service;
grant select on audit_log to live_sessions_tenant;

-- The text of a setting that `Tx` gave in hexadecimal, so that nothing in it can be taken for SQL.
create function audit_setting(name text) returns text language sql stable as
    $$ select convert_from(decode(nullif(current_setting(name, true), ''), 'hex'), 'UTF8') $$;

create function audit_write(tenant uuid, action text, subject text, changes jsonb, actor text default null) returns void
    language sql security definer set search_path from current as $$
    insert into audit_log (tenant_id, actor, request_id, action, subject_id, changes)
    values (tenant, coalesce(actor, audit_setting('live_sessions.actor'), 'sql:' || session_user),
            audit_setting('live_sessions.request'), action, subject, changes)
$$;
revoke execute on function audit_write from public;
-- For what changes no row that has a trigger: what operators do with jobs and queues.
grant execute on function audit_write to live_sessions_service;

-- Arguments: what it is called, its key's column, its tenant's column; columns whose values are not shown; columns that are
-- left out; columns that are shown even where they did not change.
create function audit_row() returns trigger language plpgsql security definer set search_path from current as $$
declare
    masked constant text[] := string_to_array(tg_argv[3], ',');
    ignored constant text[] := string_to_array(tg_argv[4], ',')
        || array[tg_argv[1], tg_argv[2], 'version', 'created_at', 'updated_at'];
    named constant text[] := string_to_array(tg_argv[5], ',');
    before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    row_now constant jsonb := coalesce(after, before);
    became text := case tg_op when 'INSERT' then 'created' when 'DELETE' then 'deleted' else 'changed' end;
    changed text[];
    changes jsonb;
begin
    -- What is null in a new or deleted row says nothing.
    select coalesce(array_agg(key), '{}') into changed from jsonb_object_keys(row_now) as key
        where key <> all (ignored)
        and coalesce(before -> key, 'null') is distinct from coalesce(after -> key, 'null');
    if tg_op = 'UPDATE' then
        if changed = '{}' then
            return null;
        end if;
        became := case when changed @> '{revoked_at}' then 'revoked'
            else coalesce(case when changed @> '{status}' then after ->> 'status' end,
                          case when changed @> '{state}' then after ->> 'state' end, became) end;
    end if;
    select jsonb_object_agg(key, case when key = any (masked)
            then jsonb_build_array(case when before ->> key is not null then '…' end, case when after ->> key is not null then '…' end)
            else jsonb_build_array(before -> key, after -> key) end)
        into changes from unnest(changed || named) as key;
    perform audit_write((row_now ->> tg_argv[2])::uuid, tg_argv[0] || '.' || became, row_now ->> tg_argv[1], coalesce(changes, '{}'));
    return null;
end
$$;

create trigger audit after insert or update or delete on sessions
    for each row execute function audit_row('session', 'id', 'tenant_id', 'host_email', 'room,attendance_rules,finalized_at,sequence', '');
create trigger audit after insert or delete on recordings
    for each row execute function audit_row('recording', 'id', 'tenant_id', 'source_url', 'upload_id,parts,source_etag,bytes_done,object_key', 'session_id');
create trigger audit_state after update on recordings
    for each row when (old.state is distinct from new.state)
    execute function audit_row('recording', 'id', 'tenant_id', 'source_url', 'upload_id,parts,source_etag,bytes_done,object_key', 'session_id');
create trigger audit after insert or delete on api_keys
    for each row execute function audit_row('api-key', 'id', 'tenant_id', '', 'hash,last_used_at', 'name');
-- Not each use.
create trigger audit_update after update on api_keys
    for each row when (old.last_used_at is not distinct from new.last_used_at)
    execute function audit_row('api-key', 'id', 'tenant_id', '', 'hash,last_used_at', 'name');
create trigger audit after insert or update or delete on provider_configs
    for each row execute function audit_row('provider-config', 'id', 'tenant_id', '', '', 'name');
create trigger audit after insert or delete on provider_secrets
    for each row execute function audit_row('provider-secret', 'config_id', 'tenant_id', 'ciphertext', 'key_id', 'field');
-- Not when another key seals the same secret.
create trigger audit_update after update on provider_secrets
    for each row when (old.key_id = new.key_id)
    execute function audit_row('provider-secret', 'config_id', 'tenant_id', 'ciphertext', 'key_id', 'field');
create trigger audit after insert or update or delete on tenants
    for each row execute function audit_row('tenant', 'id', 'id', '', '', '');

-- Thousands of invitees are one line per session: how many, and who the first hundred are.
create function audit_invitees() returns trigger language plpgsql security definer set search_path from current as $$
declare
    line record;
begin
    for line in
        select session_id, tenant_id, count(*) as count, (array_agg(person_id order by person_id))[:100] as people
        from touched group by session_id, tenant_id
    loop
        perform audit_write(line.tenant_id, 'invitees.' || tg_argv[0], line.session_id::text,
            jsonb_build_object('count', jsonb_build_array(null, line.count), 'people', jsonb_build_array(null, line.people)));
    end loop;
    return null;
end
$$;
create trigger audit_insert after insert on invitees referencing new table as touched
    for each statement execute function audit_invitees('added');
create trigger audit_update after update on invitees referencing new table as touched
    for each statement execute function audit_invitees('changed');
create trigger audit_delete after delete on invitees referencing old table as touched
    for each statement execute function audit_invitees('removed');
