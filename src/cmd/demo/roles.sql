-- `app` is what the load logs in as; `pgrunway` has what an exporter needs and no more.
CREATE ROLE app LOGIN;
CREATE ROLE pgrunway LOGIN;
REVOKE CONNECT ON DATABASE trading FROM PUBLIC;
GRANT CONNECT ON DATABASE trading TO app, pgrunway;
GRANT SELECT, INSERT, UPDATE ON public.orders, public.trades TO app;
GRANT pg_monitor TO pgrunway;
