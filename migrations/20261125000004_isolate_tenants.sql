-- The services never work as the owner of the tables, which row-level security does not bind, but as one of two roles
-- (docs/adr/0003): `live_sessions_service` sees all tenants, for what looks after all of them; `live_sessions_tenant` sees the one
-- that `live_sessions.tenant` names, and nothing where none is named.
do $$
declare
    service constant text := 'live_sessions_service';
    tenant constant text := 'live_sessions_tenant';
    role text;
    tab text;
begin
    foreach role in array array[service, tenant] loop
        begin
            if not exists (select from pg_roles where rolname = role) then
                execute format('create role %I nologin', role);
            end if;
        exception
            -- Roles belong to the whole server: another database was faster.
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise exception 'the role % is missing, and % may not create it', role, session_user
                    using hint = format('as an administrator of Postgres: create role %1$I nologin; grant %1$I to %2$I;', role, session_user);
        end;
        if not pg_has_role(session_user, role, 'member') then
            execute format('grant %I to %I', role, session_user);
        end if;
    end loop;

    execute format('grant select, insert, update, delete on all tables in schema %I to %I', current_schema(), service);
    -- Which migrations there are is not the services' to say.
    execute format('revoke insert, update, delete on %I._sqlx_migrations from %I', current_schema(), service);
    execute format('grant usage on all sequences in schema %I to %I', current_schema(), service);
    execute format('alter default privileges in schema %I grant select, insert, update, delete on tables to %I', current_schema(), service);
    execute format('alter default privileges in schema %I grant usage on sequences to %I', current_schema(), service);

    execute 'create function current_tenant() returns uuid language sql stable parallel safe
        as $f$ select nullif(current_setting(''live_sessions.tenant'', true), '''')::uuid $f$';

    for tab in
        select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and a.attname = 'tenant_id'
    loop
        execute format('alter table %I enable row level security', tab);
        execute format('create policy every_tenant on %I to %I using (true) with check (true)', tab, service);
        -- A subquery, so that it is asked for once per statement, not per row.
        execute format('create policy own_tenant on %I to %I using (tenant_id = (select current_tenant()))', tab, tenant);
        execute format('grant select, insert, update, delete on %I to %I', tab, tenant);
    end loop;
end $$;

alter table tenants enable row level security;
create policy every_tenant on tenants to live_sessions_service using (true) with check (true);
create policy own_tenant on tenants for select to live_sessions_tenant using (id = (select current_tenant()));
grant select on tenants to live_sessions_tenant;

-- Jobs of nobody in particular: who enqueues a job has to see that the same one waits already. They hold ids alone.
create policy nobodys on jobs for select to live_sessions_tenant using (tenant_id is null);

-- Jobs get their tenant from the transaction that enqueues them; those that wait already, from what they are about.
update jobs set tenant_id = coalesce(
        (select s.tenant_id from sessions s where s.id = (payload ->> 'session_id')::uuid),
        (select r.tenant_id from recordings r where r.id = (payload ->> 'recording_id')::uuid),
        (select r.tenant_id from reminders r where r.id = (payload ->> 'reminder_id')::uuid))
    where state in ('available', 'running', 'dead') and tenant_id is null;
