"""Looks at repositories each time a line comes in, and answers with a line of JSON: ``cvmfs_watcher.py FOLDER NAME…``."""

import json
import os
import sys

from af_hub.session.cvmfs_look import Looker
from af_hub.session.processes import descendants

looker = Looker(sys.argv[2:], sys.argv[1])
for line in sys.stdin:
    found = looker.look_now(float(line))
    answer = {one.name: [one.state, one.revision, one.sentence] for one in found}
    print(json.dumps({"found": answer, "children": len(descendants(os.getpid()))}), flush=True)
looker.close()
