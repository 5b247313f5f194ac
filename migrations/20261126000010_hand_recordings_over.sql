-- Recordings whose bytes somebody brings (Jibri's script, a person) instead of us fetching them: `upload_id` is the multipart upload
-- into which they put the parts. This is when all of them were there; from then on the import completes and verifies it.
alter table recordings add column handed_over_at timestamptz;
-- Who brings them gave name and digest; what they were asked to bring next is in the store alone.
create index recordings_uploads_idx on recordings (upload_id) where upload_id is not null;
