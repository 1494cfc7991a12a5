"""To study with: exercises whose forward is given, and whose backward is to be written and is judged by npora.check."""
