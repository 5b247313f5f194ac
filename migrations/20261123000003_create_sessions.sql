create table sessions (
    id                 uuid primary key,
    tenant_id          uuid not null references tenants (id),
    kind               text not null check (kind in ('scheduled', 'instant', 'webinar')),
    status             text not null default 'scheduled'
                       check (status in ('scheduled', 'live', 'ended', 'cancelled')),
    title              text not null check (title <> ''),
    description        text not null default '',
    -- The LMS's own key of the course; opaque here.
    course_id          text,
    -- The person who holds the class (the token's `sub`), and how mails name them.
    host_id            text not null,
    host_name          text not null default '',
    host_email         text,
    -- Who may join: only `invitees`, or everybody of the `tenant`.
    access             text not null default 'invitees' check (access in ('invitees', 'tenant')),
    provider           text not null check (provider in ('jitsi', 'bigbluebutton', 'zoom')),
    -- The meeting's name at the provider: [a-z0-9-] only (Jitsi lower-cases and encodes others).
    room               text not null unique check (room ~ '^[a-z0-9-]+$'),
    starts_at          timestamptz not null,
    ends_at            timestamptz not null,
    -- IANA name of the zone in which the class was planned; calendar entries show it.
    timezone           text not null,
    max_participants   integer check (max_participants > 0),
    recording_enabled  boolean not null default false,
    -- Actual life.
    started_at         timestamptz,
    ended_at           timestamptz,
    end_reason         text check (end_reason in ('host', 'provider', 'overdue', 'abandoned')),
    cancelled_at       timestamptz,
    cancel_reason      text,
    -- The tenant's attendance rules as they were at the start.
    attendance_rules   jsonb,
    finalized_at       timestamptz,
    -- iCalendar SEQUENCE (RFC 5545 §3.8.7.4): raised when time or title changes and on cancelling.
    sequence           integer not null default 0,
    -- Raised by every write; the ETag.
    version            bigint not null default 1,
    created_by         text not null,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    constraint sessions_end_after_start check (ends_at > starts_at)
);
create index sessions_tenant_starts_idx on sessions (tenant_id, starts_at, id);
-- What one person sees in a large tenant: own sessions, those open to all; invitations have an index of their own.
create index sessions_host_idx on sessions (tenant_id, host_id, starts_at, id);
create index sessions_maker_idx on sessions (tenant_id, created_by, starts_at, id);
create index sessions_open_to_all_idx on sessions (tenant_id, starts_at, id) where access = 'tenant';
create index sessions_tenant_course_idx on sessions (tenant_id, course_id, starts_at) where course_id is not null;
-- The sweep looks at these every minute.
create index sessions_open_idx on sessions (ends_at) where status in ('scheduled', 'live');

create table invitees (
    session_id   uuid not null references sessions (id) on delete cascade,
    tenant_id    uuid not null references tenants (id),
    -- The person's id in the LMS, the token's `sub`.
    person_id    text not null,
    name         text not null default '',
    email        text,
    locale       text,
    timezone     text,
    role         text not null default 'participant' check (role in ('participant', 'co_host')),
    -- Excused beforehand: absent without it counting as absence.
    excused      boolean not null default false,
    created_at   timestamptz not null default now(),
    primary key (session_id, person_id)
);
create index invitees_person_idx on invitees (tenant_id, person_id);
