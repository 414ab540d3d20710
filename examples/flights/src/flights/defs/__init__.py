"""The assets of this project and the resources that they need."""
