"""Pictures of a scheme: what each panel shows, and how panels are drawn."""
