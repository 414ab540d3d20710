"""Many loads in one YAML file: the component, and the scaffolder that writes its first version."""
