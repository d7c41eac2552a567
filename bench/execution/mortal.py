"""An import that makes the process from which workers are forked end at once when its command ends.

The process imports this module before torch. The import of torch takes seconds, and in this time the process would not
notice that the command has been killed. Only an imported module can run code in that process.
"""

from bench.execution.beginning import end_with_command

end_with_command()
