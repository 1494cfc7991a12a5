"""What a derivative is measured by, none of which reads the pullback's formula."""
