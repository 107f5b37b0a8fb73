-- Statements over what the records say: states of now (views by type, `entities`), states that were (`entity_history`), joins.
-- Each has a name in a line of its own and ends with a semicolon; where it takes a part of the rows, its order is total.

-- name: summary of prices
select state, segment, count(*) as n, sum(price) as total, sum(price * (1 - discount)) as net, avg(price) as mean, avg(discount) as discount
from job where due_at <= timestamp '2025-12-01' group by state, segment order by state, segment;

-- name: most valuable open jobs
select organization, entity_id, customer, price * (1 - discount) as net, due_at from job
where segment = 'pharma' and state <> 'closed' order by net desc, organization, entity_id limit 10;

-- name: late jobs by priority
select priority, count(*) as n from job
where due_at >= timestamp '2025-04-01' and due_at < timestamp '2025-07-01' and exists (
    select 1 from sample where sample.organization = job.organization and sample.job = job.entity_id and sample.state = 'reject')
group by priority order by priority;

-- name: volume by country
select j.country, count(distinct j.entity_id) as jobs, sum(s.mass_mg) as mass from job j
join sample s on s.organization = j.organization and s.job = j.entity_id
where s.received_at >= timestamp '2025-01-01' group by j.country order by mass desc, j.country;

-- name: what discounts cost
select sum(price * discount) as cost from job where discount between 0.04 and 0.08 and lines < 12;

-- name: matrix by country and quarter
select j.country, s.matrix, date_trunc('quarter', s.received_at) as quarter, count(*) as n, avg(s.result) as result
from sample s join job j on j.organization = s.organization and j.entity_id = s.job
where j.country in ('DE', 'FR', 'NL') group by all order by all;

-- name: share of a country
select date_trunc('month', s.received_at) as month, sum(case when j.country = 'NL' then 1 else 0 end) / count(*)::double as share
from sample s join job j on j.organization = s.organization and j.entity_id = s.job group by month order by month;

-- name: customers with rejected samples
select j.customer, count(*) as rejected, sum(j.price) as price from job j
join sample s on s.organization = j.organization and s.job = j.entity_id where s.state = 'reject'
group by j.customer order by rejected desc, j.customer limit 20;

-- name: matrices above a part of all
select matrix, sum(mass_mg) as mass from sample group by matrix
having sum(mass_mg) > (select sum(mass_mg) * 0.15 from sample) order by mass desc, matrix;

-- name: urgent against all
select state, sum(case when priority <= 2 then 1 else 0 end) as urgent, sum(case when priority > 2 then 1 else 0 end) as others
from sample where hazardous group by state order by state;

-- name: distribution of samples
select samples, count(*) as jobs from (
    select j.organization, j.entity_id, count(s.entity_id) as samples from job j
    left join sample s on s.organization = j.organization and s.job = j.entity_id and s.hazardous
    group by j.organization, j.entity_id)
group by samples order by samples;

-- name: share of hazardous results
select 100.0 * sum(case when hazardous then result else 0 end) / sum(result) as part from sample where result is not null;

-- name: best customer
with revenue as (select customer, sum(price * (1 - discount)) as total from job group by customer)
select customer, total from revenue where total = (select max(total) from revenue) order by customer;

-- name: matrices without complaints
select matrix, count(distinct job) as jobs from sample
where priority not in (1, 5) and job not in (select entity_id from job where state = 'cancel')
group by matrix order by jobs desc, matrix;

-- name: lighter than usual
select count(*) as n, sum(s.mass_mg) / 7.0 as mass from sample s
join (select matrix, avg(mass_mg) * 0.3 as bound from sample group by matrix) b on b.matrix = s.matrix
where s.mass_mg < b.bound;

-- name: large jobs
select organization, entity_id, customer, price from job where (organization, entity_id) in (
    select (organization, job) from sample group by organization, job having count(*) > 2)
order by price desc, organization, entity_id limit 50;

-- name: one of several conditions
select count(*) as n, sum(price) as price from job where (segment = 'food' and lines between 1 and 6 and country in ('DE', 'AT'))
    or (segment = 'pharma' and lines between 5 and 15 and country in ('FR', 'BE')) or (segment = 'water' and discount > 0.08);

-- name: time in each state
select state->>'$.state' as name, count(*) as n, max(valid_to_sequence - sequence) as longest,
    avg(valid_to_sequence - sequence) as mean
from entity_history where entity_type = 'sample' and valid_to is not null group by name order by name;

-- name: how often things changed
select entity_type, version, count(*) as n from entities where version <= 10 group by entity_type, version
order by entity_type, version;

-- name: the two newest states
select organization, entity_id, sequence, version, changed from (
    select organization, entity_id, sequence, version, row_number() over (partition by organization, entity_id order by sequence desc) as changed
    from entity_history where entity_type = 'instrument') where changed <= 2
order by sequence desc, organization, entity_id limit 20;

-- name: instruments out of bounds
select i.site, i.kind, count(*) as n, max(abs(i.drift)) as drift from instrument i
where abs(i.drift) > (select avg(abs(drift)) from instrument) group by i.site, i.kind order by i.site, i.kind;

-- name: boxes that are full
select organization, box__row, box__slot, count(*) as n from sample where state = 'store'
group by organization, box__row, box__slot order by n desc, organization, box__row, box__slot limit 15;
