from posx.api import Catalog as Catalog
from posx.api import PosxError as PosxError
from posx.api import Progress as Progress
from posx.api import Record as Record
from posx.api import Run as Run
from posx.api import RunConfig as RunConfig
from posx.api import Table as Table
from posx.api import compose as compose
from posx.api import compose_finetune as compose_finetune
from posx.api import evaluate as evaluate
from posx.api import finetune as finetune
from posx.api import load_records as load_records
from posx.api import load_run as load_run
from posx.api import sweep as sweep
from posx.api import train as train

__version__: str
