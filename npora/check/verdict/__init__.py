"""What is made of the evidence: a verdict, its tolerance, what is wrong, and how that is told."""
