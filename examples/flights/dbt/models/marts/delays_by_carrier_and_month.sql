select
    f.carrier,
    a.name as airline,
    f.month,
    count(*) as flights,
    count(*) filter (where f.is_cancelled) as cancelled,
    round(avg(f.dep_delay), 1) as departure_delay,
    round(avg(f.arr_delay), 1) as arrival_delay
from {{ ref('stg_flights') }} as f
inner join {{ source('nyc', 'airlines') }} as a on f.carrier = a.carrier
group by f.carrier, a.name, f.month
