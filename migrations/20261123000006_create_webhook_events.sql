-- The inbox: every webhook whose signature was right, as it came. Kept for replay.
create table webhook_events (
    id            uuid primary key,
    tenant_id     uuid references tenants (id),
    session_id    uuid references sessions (id) on delete set null,
    provider      text not null,
    -- The provider's own event id, else a hash of the body: what makes a repeat recognisable.
    event_key     text not null,
    event_type    text not null,
    -- The provider's time of the event; order is by this, not by arrival.
    occurred_at   timestamptz not null,
    body          jsonb not null,
    state         text not null default 'stored' check (state in ('stored', 'processed', 'ignored')),
    -- Why it was ignored.
    note          text,
    received_at   timestamptz not null default now(),
    processed_at  timestamptz,
    unique (provider, event_key)
);
create index webhook_events_received_idx on webhook_events (received_at);
