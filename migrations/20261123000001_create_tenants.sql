-- A tenant is one school or company. Everything else belongs to exactly one of them.
-- `slug` is what the LMS puts into the token's `tenant` claim (the id works as well).
create table tenants (
    id                    uuid primary key,
    slug                  text not null unique check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name                  text not null,
    locale                text not null default 'tr' check (locale in ('tr', 'en')),
    timezone              text not null default 'Europe/Istanbul',
    -- Before the planned start, from when on people may join.
    join_opens_before_s   integer not null default 900 check (join_opens_before_s >= 0),
    -- Reminder steps, in minutes before the start.
    reminder_minutes      integer[] not null default '{1440,15}',
    heartbeat_interval_s  integer not null default 30 check (heartbeat_interval_s between 5 and 300),
    heartbeat_timeout_s   integer not null default 90 check (heartbeat_timeout_s between 15 and 3600),
    -- How long after its planned end a session without people is left open.
    end_grace_s           integer not null default 900 check (end_grace_s >= 0),
    -- Thresholds for present, late, left early, partial (shared::domain::attendance::Rules); frozen
    -- into the session when it starts, so that a later change does not rewrite the past.
    attendance_rules      jsonb not null default '{}',
    -- Recordings older than this are deleted by the nightly clean-up; null keeps them.
    recording_retention_days integer check (recording_retention_days > 0),
    created_at            timestamptz not null default now()
);
