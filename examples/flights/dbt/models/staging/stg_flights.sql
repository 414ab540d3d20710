select
    carrier,
    flight,
    tailnum,
    origin,
    dest,
    make_date(year, month, 1) as month,
    time_hour,
    distance,
    dep_delay,
    arr_delay,
    dep_time is null as is_cancelled
from {{ source('nyc', 'flights') }}
