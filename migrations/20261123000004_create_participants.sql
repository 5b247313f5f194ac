-- One row per connection and stretch of presence. A heartbeat connection that fell silent is closed
-- at its last sighting; when it comes back it gets a new row, so that the gap is not counted.
create table participants (
    id              uuid primary key,
    tenant_id       uuid not null references tenants (id),
    session_id      uuid not null references sessions (id) on delete cascade,
    -- The person's id in the LMS; `guest:<connection>` for people whom the provider does not name.
    person_id       text not null,
    name            text not null default '',
    role            text not null default 'participant' check (role in ('host', 'co_host', 'participant')),
    -- Who told us: 'heartbeat' (our own endpoint) or 'webhook' (the provider).
    source          text not null check (source in ('heartbeat', 'webhook', 'poll', 'end_report', 'manual')),
    -- The connection's id at its source: handed out by join, or the provider's (a JID, …).
    connection_key  text not null,
    joined_at       timestamptz not null,
    -- Our clock for heartbeats, the provider's for events.
    last_seen_at    timestamptz not null,
    left_at         timestamptz,
    left_reason     text check (left_reason in ('left', 'stale', 'ended')),
    created_at      timestamptz not null default now()
);
-- One open row per connection, whatever arrives at the same time.
create unique index participants_open_key on participants (session_id, source, connection_key) where left_at is null;
create index participants_session_idx on participants (session_id, joined_at);
-- The sweep of silent connections.
create index participants_silent_idx on participants (last_seen_at) where left_at is null and source = 'heartbeat';

-- What providers said about people, word for word and in any order. The attendance report is a
-- function of these rows and of the heartbeat rows above.
create table sightings (
    session_id      uuid not null references sessions (id) on delete cascade,
    tenant_id       uuid not null references tenants (id),
    person_id       text not null,
    connection_key  text not null,
    source          text not null check (source in ('heartbeat', 'webhook', 'poll', 'end_report', 'manual')),
    kind            text not null check (kind in ('joined', 'seen', 'left')),
    at              timestamptz not null,
    name            text not null default '',
    created_at      timestamptz not null default now(),
    -- The same event told twice is one sighting.
    primary key (session_id, source, connection_key, kind, at)
);

-- The computed report: one row per person and session, written by finalize-session.
create table attendance (
    session_id       uuid not null references sessions (id) on delete cascade,
    tenant_id        uuid not null references tenants (id),
    person_id        text not null,
    name             text not null default '',
    email            text,
    invited          boolean not null,
    first_join_at    timestamptz,
    last_leave_at    timestamptz,
    present_seconds  bigint not null,
    percent          double precision not null,
    status           text not null check (status in ('present', 'late', 'left_early', 'partial', 'absent', 'excused')),
    -- [{start, end, sources}]
    intervals        jsonb not null default '[]',
    connections      integer not null default 0,
    computed_at      timestamptz not null default now(),
    primary key (session_id, person_id)
);
