"""CronJobs: Jobs at times that a schedule tells."""
