-- Answers to POSTs with an `Idempotency-Key`, kept for 24 hours, so that a repeat gets the same answer and has no second
-- effect. A row is written in the transaction of the effect: it is there if, and only if, the effect is.
create table idempotency_keys (
    -- SHA-256 over the tenant, the caller, the route and the key; the key itself is not stored.
    id          bytea primary key check (length(id) = 32),
    tenant_id   uuid not null references tenants on delete cascade,
    -- Status, headers and body, encrypted under a key that is derived from the caller's: answers may hold join tokens,
    -- and who reads the database, or a copy of it, cannot open them.
    answer      bytea not null,
    created_at  timestamptz not null default now()
);

-- The clean-up deletes the oldest first.
create index idempotency_keys_created_at on idempotency_keys (created_at);
create index idempotency_keys_tenant_id on idempotency_keys (tenant_id);
