"""What objects use of a ResourceQuota, for admission, which charges it, and for the quota
controller, which recounts it. Rules QUOTA-3, QUOTA-4 (spec/quota.md)."""
