"""Names of AWS's `sagemaker_containers` (family B)."""
