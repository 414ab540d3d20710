"""Loads that are nothing but YAML."""

PIPELINE = """
  pipeline:
    pipeline_name: shop
    destination:
      type: duckdb
      credentials: warehouse.duckdb
    dataset_name: raw
"""

REST_API = f"""
- name: load_shop
  source:
    rest_api:
      client:
        base_url: "{{{{ env.SHOP_URL }}}}"
        auth:
          type: bearer
          token: "{{{{ env.SHOP_TOKEN }}}}"
        paginator:
          type: page_number
          base_page: 1
          total_path: total
      resource_defaults:
        primary_key: id
        write_disposition: merge
      resources:
        - customers
        - name: orders
          endpoint:
            path: orders
            incremental:
              cursor_path: updated_at
              initial_value: "2024-01-01T00:00:00Z"
{PIPELINE}
"""

DATABASE = """
- name: load_crm
  source:
    sql_database:
      credentials: "{{ env.CRM_URL }}"
      tables:
        - customers
        - name: orders
          primary_key: id
          write_disposition: merge
          incremental:
            cursor_path: placed_at
            initial_value: "2024-05-02"
            window: local_datetime
""" + PIPELINE.replace("shop", "crm")

FILES = (
    """
- source:
    filesystem:
      bucket_url: data
      tables:
        - name: clicks
          file_glob: "clicks/*.jsonl"
          reader: jsonl
          incremental: modification_date
        - name: prices
          file_glob: "*.csv"
          reader: csv
          reader_kwargs: {sep: ";"}
          primary_key: sku
          write_disposition: merge
"""
    + PIPELINE
)
