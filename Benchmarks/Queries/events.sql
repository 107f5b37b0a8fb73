-- Statements over the log of events: wide scans, filters, groups of few and of many, texts, members of documents.
-- Each has a name in a line of its own and ends with a semicolon; where it takes a part of the rows, its order is total.

-- name: count
select count(*) as n from audit_log;

-- name: count of a rare value
select count(*) as n from audit_log where severity = 'critical';

-- name: plain figures
select count(*) as n, sum(sequence) as total, avg(sequence) as mean, min(sequence) as low, max(sequence) as high from audit_log;

-- name: distinct actors
select count(distinct actor_id) as actors from audit_log;

-- name: distinct entities
select count(distinct entity_id) as entities from audit_log;

-- name: first and last time
select min(occurred_at) as earliest, max(occurred_at) as latest from audit_log;

-- name: events by action
select action, count(*) as n from audit_log group by action order by n desc, action;

-- name: entities by role
select actor_role, count(distinct entity_id) as entities, count(*) as n from audit_log group by actor_role order by actor_role;

-- name: figures by actor
select actor_id, count(*) as n, count(distinct entity_id) as entities, avg(length(reason)) as words, max(occurred_at) as latest
from audit_log group by actor_id order by n desc, actor_id limit 10;

-- name: busiest entities
select entity_type, entity_id, count(*) as n from audit_log group by entity_type, entity_id
order by n desc, entity_type, entity_id limit 10;

-- name: pairs of actor and action
select actor_id, action, count(*) as n from audit_log group by actor_id, action order by n desc, actor_id, action limit 10;

-- name: events by day
select date_trunc('day', occurred_at) as day, count(*) as n from audit_log
where occurred_at >= timestamp '2025-03-01' and occurred_at < timestamp '2025-04-01' group by day order by day;

-- name: events by hour and severity
select extract(hour from occurred_at) as hour, severity, count(*) as n from audit_log
group by hour, severity order by hour, severity;

-- name: text in the reason
select count(*) as n from audit_log where reason like '%label%';

-- name: reasons of one kind
select actor_id, min(reason) as example, count(*) as n from audit_log
where reason like '%seal%' and severity <> 'info' group by actor_id order by n desc, actor_id limit 10;

-- name: newest of an action
select organization, sequence, actor_id, entity_id from audit_log where action = 'reject'
order by sequence desc, organization limit 10;

-- name: one entity's records
select * from audit_log where entity_type = 'sample' and entity_id = 'sample-77' order by organization, sequence;

-- name: member of a document
select after->>'$.state' as state, count(*) as n from audit_log where entity_type = 'sample'
group by state order by n desc, state;

-- name: quantiles of a member
select action, median(cast(after->>'$.result' as double)) as middle, quantile_cont(cast(after->>'$.result' as double), 0.95) as high
from audit_log where action in ('measure', 'review') group by action order by action;

-- name: shape of identifiers
select regexp_extract(entity_id, '^([a-z]+)-', 1) as kind, length(entity_id) as digits, count(*) as n
from audit_log group by all order by all;

-- name: many sums
select sum(sequence) as s0, sum(sequence + 1) as s1, sum(sequence + 2) as s2, sum(sequence + 3) as s3, sum(sequence + 4) as s4,
    sum(sequence + 5) as s5, sum(sequence + 6) as s6, sum(sequence + 7) as s7, sum(sequence + 8) as s8, sum(sequence + 9) as s9
from audit_log;

-- name: counts under conditions
select organization, count(*) filter (where outcome = 'denied') as denied, count(*) filter (where severity = 'warning') as warnings,
    count(*) filter (where actor_kind = 'service_account') as machines
from audit_log group by organization order by denied desc, organization limit 10;

-- name: groups above a limit
select actor_id, date_trunc('month', occurred_at) as month, count(*) as n from audit_log
where outcome = 'success' group by actor_id, month having count(*) > 5 order by n desc, actor_id, month limit 20;
