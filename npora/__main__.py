"""python -m npora"""

import sys

from npora.cli import main

if __name__ == "__main__":
    sys.exit(main())
