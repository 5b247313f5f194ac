-- The inbox is shown to administrators, newest first.
create index webhook_events_tenant_idx on webhook_events (tenant_id, id);

-- Who had an event processed again.
create function audit_replay() returns trigger language plpgsql security definer set search_path from current as $$
begin
    perform audit_write(new.tenant_id, 'webhook-event.replayed', new.id::text, '{}');
    return null;
end
$$;
create trigger audit_replay after update of state on webhook_events
    for each row when (old.state <> 'stored' and new.state = 'stored') execute function audit_replay();
