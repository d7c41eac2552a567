"""The process from which workers are forked imports this module first, and then ends with its command, at once.

To import torch takes it seconds, in which it would not notice that the command has been killed. To import this module
is the only way to run something there.
"""

from bench.execution.beginning import end_with_command

end_with_command()
