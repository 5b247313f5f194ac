-- The ledger of jobs: the truth about all background work. A row is written in the transaction of
-- the change that causes it; Redis only carries its id to a worker (docs/adr/0001).
create table jobs (
    id             uuid primary key,
    tenant_id      uuid,
    queue          text not null check (queue in ('default', 'live', 'notifications')),
    -- The stable name of the job, e.g. `import-recording`. Never renamed.
    kind           text not null,
    payload        jsonb not null,
    -- available (due at run_at) → running → done | dead | cancelled; back to available on a retry.
    state          text not null default 'available'
                   check (state in ('available', 'running', 'done', 'dead', 'cancelled')),
    -- 0 first … 3 last.
    priority       smallint not null default 1 check (priority between 0 and 3),
    run_at         timestamptz not null default now(),
    -- Starts that count: a snooze, a rate limit and an orderly hand-back give theirs back.
    attempt        integer not null default 0,
    max_attempts   integer not null,
    -- Starts that ended with the death of the worker, counted apart.
    crashes        integer not null default 0,
    -- While one job with this key waits or runs, a second one of the same kind is refused.
    unique_key     text,
    -- The fencing token: raised by each claim. A worker whose token is old can no longer write.
    lease_token    bigint not null default 0,
    lease_until    timestamptz,
    worker         text,
    cancel_requested boolean not null default false,
    -- The newest failures, newest last: [{at, attempt, error}].
    errors         jsonb not null default '[]',
    -- W3C trace context of the request that caused the job.
    traceparent    text,
    created_at     timestamptz not null default now(),
    started_at     timestamptz,
    finished_at    timestamptz
) with (fillfactor = 80);

-- What is due, first things first. Only waiting rows are in it: it stays small.
create index jobs_available_idx on jobs (queue, priority, run_at) where state = 'available';
-- Leases that ran out.
create index jobs_running_idx on jobs (lease_until) where state = 'running';
create unique index jobs_unique_key on jobs (kind, unique_key)
    where unique_key is not null and state in ('available', 'running');
-- What the clean-up may delete.
create index jobs_finished_idx on jobs (finished_at) where state in ('done', 'cancelled');
create index jobs_dead_idx on jobs (queue, finished_at) where state = 'dead';

-- One row per schedule and tick: whoever inserts it enqueues the job, so any number of schedulers
-- run each tick once, and the newest row tells what was missed while none ran.
create table schedule_ticks (
    schedule    text not null,
    tick        timestamptz not null,
    job_id      uuid,
    created_at  timestamptz not null default now(),
    primary key (schedule, tick)
);
