"""prefork_chat: a prefork chat daemon that people drive with netcat.

Owns nothing but the version. The command is `prefork_chat.cli`; the process tree is
`prefork_chat.supervisor` above `prefork_chat.worker`; the words that a client may say are
`prefork_chat.protocol`, and what they mean `prefork_chat.chat`. Imports go down only: cli,
supervisor, worker, registry, chat, protocol, and last config, log and errors. Importing this
package imports no other module of it and has no effect. Read next: `ARCHITECTURE.md` beside this
file.
"""

from __future__ import annotations

__version__ = "0.1.0"
