-- When the provider last told that the meeting goes on: if its server dies, who was in it is believed to have been there so long.
alter table meetings add column seen_at timestamptz;
-- Those that are asked about, see poll-meetings.
create index meetings_open_idx on meetings (provider) where ended_at is null and made_at is not null;

-- A recording that is to be watched at the provider: a page, and no file that could be fetched. It has no object.
alter table recordings add column playback_url text;
-- What it is, by the provider's word: presentation, video, notes, … Null where the provider knows one form alone.
alter table recordings add column format text;
-- When a person deleted it: it does not come back, whatever the provider says.
alter table recordings add column removed_at timestamptz;
