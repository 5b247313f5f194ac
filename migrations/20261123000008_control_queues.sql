-- What operators decide about queues and schedules.

-- A queue without a row, or with an empty `paused_at`, works. From a paused one no job is claimed, by any worker; what
-- runs goes on, what is enqueued waits.
create table queue_states (
    queue      text primary key check (queue in ('default', 'live', 'notifications')),
    paused_at  timestamptz,
    -- Who paused it: the caller's id, or the user of the command line.
    paused_by  text
);

-- What the schedulers run, written by them, so that others can show it. Ticks are in `schedule_ticks`.
create table schedules (
    name        text primary key,
    -- As the configuration has it at present; 5 or 6 fields.
    cron        text not null,
    zone        text not null,
    -- False where the configuration switches it off.
    enabled     boolean not null,
    next_run    timestamptz,
    updated_at  timestamptz not null default now(),
    -- The newest run that somebody asked for. It is no tick: it neither replaces one nor is it caught up.
    asked_at    timestamptz,
    asked_by    text,
    asked_job   uuid
);

-- Dead letters, newest first: all, of a queue, of a kind. Rows on their way through the queue touch none of these.
drop index jobs_dead_idx;
create index jobs_dead_idx on jobs (id) where state = 'dead';
create index jobs_dead_queue_idx on jobs (queue, id) where state = 'dead';
create index jobs_dead_kind_idx on jobs (kind, id) where state = 'dead';
