-- Rates that hold over all workers, such as mails per second (`WORKER_RATES`). Starts are given out one after the
-- other: a job whose turn is later than now goes back and waits for it.
create table rates (
    -- `mails`, or the kind of a job.
    name     text primary key,
    -- When the next start is free.
    next_at  timestamptz not null
);

-- The turn that a waiting job was given; taken with the next claim.
alter table jobs add column turn_at timestamptz;
