select
    f.origin || '-' || f.dest as route,
    f.origin,
    f.dest,
    -- Four destinations are missing among the airports of the data set.
    a.name as destination,
    count(*) as flights,
    round(avg(f.arr_delay), 1) as arrival_delay
from {{ ref('stg_flights') }} as f
left join {{ source('nyc', 'airports') }} as a on f.dest = a.faa
group by f.origin, f.dest, a.name
