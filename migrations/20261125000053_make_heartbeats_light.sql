-- A heartbeat changes `last_seen_at` alone. While an index held that column, each one wrote to every index of the table; now it
-- stays within its page (a HOT update), for which the pages keep room. The sweep of silent connections looks at all open ones instead:
-- that is once in 30 seconds, heartbeats are thousands.
drop index participants_silent_idx;
alter table participants set (fillfactor = 70);
-- Who is there: for heartbeats without a connection, for places, for the sweep.
create index participants_here_idx on participants (session_id, person_id) where left_at is null;
