select
    case
        when w.origin is null then 'unknown'
        when w.precip > 0 then 'rain or snow'
        when w.visib < 5 then 'poor visibility'
        when w.wind_speed > 25 then 'strong wind'
        else 'fair'
    end as weather,
    count(*) as flights,
    round(avg(f.dep_delay), 1) as departure_delay,
    round(100.0 * count(*) filter (where f.is_cancelled) / count(*), 1) as percent_cancelled
from {{ ref('stg_flights') }} as f
left join {{ source('nyc', 'weather') }} as w
    on f.origin = w.origin and f.time_hour = w.time_hour
group by 1
